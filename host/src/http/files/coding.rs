//! Content codings: which compressed sibling of a file a client accepts (RFC 9110, section 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// A coding that a sibling of a file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

/// Most items of `accept-encoding` that are read; browsers send four.
const MAX_ITEMS: usize = 16;

impl Coding {
    /// The best first, for a client that accepts all alike.
    const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its name in `content-encoding`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What the sibling's name has after the file's.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// The codings that the client accepts, the preferred one first.
pub(super) fn accepted(headers: &HeaderMap) -> impl Iterator<Item = Coding> {
    let mut weights = [None; Coding::ALL.len()];
    let mut others = 0;
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for (name, weight) in values.flat_map(|value| value.split(',')).take(MAX_ITEMS).filter_map(item) {
        match Coding::ALL.iter().position(|coding| name.eq_ignore_ascii_case(coding.name())) {
            Some(number) => weights.get_mut(number).into_iter().for_each(|of_coding| *of_coding = Some(weight)),
            None if name == "*" => others = weight,
            None => {}
        }
    }
    let weighted = Coding::ALL.into_iter().zip(weights.map(|weight| weight.unwrap_or(others)));
    let mut accepted: Vec<_> = weighted.filter(|(_, weight)| *weight > 0).collect();
    accepted.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    accepted.into_iter().map(|(coding, _)| coding)
}

/// A coding and its weight in thousandths. None if the weight is invalid.
fn item(item: &str) -> Option<(&str, u16)> {
    let (name, weight) = match item.split_once(';') {
        None => (item, 1_000),
        Some((name, parameter)) => {
            let (key, weight) = parameter.split_once('=')?;
            let weight: f32 = weight.trim().parse().ok()?;
            let is_weight = key.trim().eq_ignore_ascii_case("q") && (0.0..=1.0).contains(&weight);
            (name, is_weight.then_some((weight * 1_000.0) as u16)?)
        }
    };
    Some((name.trim(), weight))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_preferred_coding_is_first() {
        fn check(values: &[&'static str], expected: &[&str]) {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            let names: Vec<_> = accepted(&headers).map(Coding::name).collect();
            assert_eq!(names, expected, "{values:?}");
        }
        check(&[], &[]);
        check(&[""], &[]);
        check(&["gzip, deflate, br, zstd"], &["br", "zstd", "gzip"]);
        check(&["gzip"], &["gzip"]);
        check(&["GZIP"], &["gzip"]);
        check(&["gzip;q=1.0, br;q=0.5"], &["gzip", "br"]);
        check(&["br;q=0, gzip"], &["gzip"]);
        check(&["gzip", "br"], &["br", "gzip"]);
        check(&["*"], &["br", "zstd", "gzip"]);
        check(&["*;q=0.1, gzip"], &["gzip", "br", "zstd"]);
        check(&["gzip;q=0, *"], &["br", "zstd"]);
        check(&["identity"], &[]);
        check(&["gzip;q=2, br;q=x, zstd;level=1"], &[]);
        check(&["gzip ; q = 0.2"], &["gzip"]);
        check(&["a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,gzip"], &[]);
    }
}
