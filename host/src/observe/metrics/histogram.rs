//! Histograms with exponential buckets: the native histograms of Prometheus, schema 2 for times and 0 for sizes.
//!
//! A value is counted in one bucket. What is reported as cumulative is added up by the reader.

/// How the values of a histogram are assigned to buckets. The first bucket has everything up to the smallest bound, the
/// last one everything above the largest. In between, each bucket ends at its bound, which is included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Times, kept in nanoseconds: bounds of 2^(k/4) seconds, from 2^-20 (about a microsecond) to 2^10 (17 minutes).
    Seconds,
    /// Sizes in bytes: bounds of 2^k, from 64 KiB (a page of WebAssembly) to 4 GiB (all of a 32-bit memory).
    Bytes,
}

/// The exponents of the smallest and of the largest bound of times, in quarters.
const MIN_QUARTERS: i32 = -80;
const MAX_QUARTERS: i32 = 40;

/// The exponents of the smallest and of the largest bound of sizes.
const MIN_BYTES_EXPONENT: u32 = 16;
const MAX_BYTES_EXPONENT: u32 = 32;

pub(super) const TIME_BUCKETS: usize = (MAX_QUARTERS - MIN_QUARTERS) as usize + 2;
pub(super) const SIZE_BUCKETS: usize = (MAX_BYTES_EXPONENT - MIN_BYTES_EXPONENT) as usize + 2;

/// The mantissas of 2^(1/4), 2^(2/4) and 2^(3/4) as f64 (the 52 bits below the leading 1).
const QUARTERS: [u64; 3] = [0x3_06fe_0a31_b715, 0x6_a09e_667f_3bcd, 0xa_e89f_995a_d3ad];

/// The bucket of a time.
#[inline]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a part of 2^53 moves no value to another bucket that matters"
)]
pub(super) fn time_bucket(ns: u64) -> usize {
    let bits = ((ns as i64) as f64 * 1e-9).to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let mantissa = bits & ((1 << 52) - 1);
    let [first, second, third] = QUARTERS;
    let above = i32::from(mantissa > 0)
        + i32::from(mantissa > first)
        + i32::from(mantissa > second)
        + i32::from(mantissa > third);
    let quarters = (4 * exponent + above).clamp(MIN_QUARTERS, MAX_QUARTERS + 1);
    #[expect(clippy::cast_sign_loss, reason = "not below the smallest exponent")]
    let bucket = (quarters - MIN_QUARTERS) as usize;
    bucket
}

/// The bucket of a size.
#[inline]
pub(super) fn size_bucket(bytes: u64) -> usize {
    // The exponent of the smallest power of two that is not below.
    let exponent = u64::BITS - bytes.saturating_sub(1).leading_zeros();
    (exponent.clamp(MIN_BYTES_EXPONENT, MAX_BYTES_EXPONENT + 1) - MIN_BYTES_EXPONENT) as usize
}

impl Scale {
    pub(super) const fn buckets(self) -> usize {
        match self {
            Self::Seconds => TIME_BUCKETS,
            Self::Bytes => SIZE_BUCKETS,
        }
    }

    /// The schema of the native histogram: 2^schema buckets for each power of two.
    pub(crate) fn schema(self) -> i32 {
        match self {
            Self::Seconds => 2,
            Self::Bytes => 0,
        }
    }

    /// The index in the native histogram of the first bucket's bound.
    pub(crate) fn first_index(self) -> i32 {
        match self {
            Self::Seconds => MIN_QUARTERS,
            #[expect(clippy::cast_possible_wrap, reason = "a constant")]
            Self::Bytes => MIN_BYTES_EXPONENT as i32,
        }
    }

    /// The upper bound of a bucket, in seconds or bytes; infinity for the last one.
    pub(crate) fn bound(self, bucket: usize) -> f64 {
        if bucket + 1 >= self.buckets() {
            return f64::INFINITY;
        }
        let index = i32::try_from(bucket).unwrap_or(i32::MAX).saturating_add(self.first_index());
        (f64::from(index) * 0.5_f64.powi(self.schema())).exp2()
    }

    /// The sum of a histogram in its unit.
    #[expect(clippy::cast_precision_loss, reason = "a sum is reported as a floating-point number")]
    pub(crate) fn in_unit(self, sum: u64) -> f64 {
        match self {
            Self::Seconds => sum as f64 / 1e9,
            Self::Bytes => sum as f64,
        }
    }
}
