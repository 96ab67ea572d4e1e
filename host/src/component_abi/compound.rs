//! Compound types: strings, lists, options, results and tuples; and the macros that declare records and variants.

use wasmparser::PrimitiveValType;
use wasmparser::component_types::{ComponentDefinedType, ComponentValType};
use wasmtime::bail;

use super::{Flat, FlatValues, Lift, Lifting, Location, Lower, Lowering, Wit, WitTypes, align_to, max};

/// Lists and strings are passed as a pointer and a length.
const POINTER_BYTES: usize = 4;

impl<T: Wit> Wit for Vec<T> {
    const SIZE: usize = 2 * POINTER_BYTES;
    const ALIGN: usize = POINTER_BYTES;
    const FLAT: usize = 2;
    const HAS_LISTS: bool = true;

    fn flatten(flat: &mut Vec<Flat>) {
        flat.extend([Flat::I32, Flat::I32]);
    }

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        matches!(types.defined(ty), Some(ComponentDefinedType::List { element, .. }) if T::is(types, *element))
    }
}

impl<T: Lift> Lift for Vec<T> {
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        let (pointer, count) = (flat.u32()?, flat.u32()?);
        let elements = cx.elements::<T>(pointer, count)?;
        T::load_list(cx, elements)
    }

    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
        let (pointer, count) = <(u32, u32)>::load(cx, bytes)?;
        let elements = cx.elements::<T>(pointer, count)?;
        T::load_list(cx, elements)
    }
}

impl<T: Lower> Lower for Vec<T> {
    fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
        u32::try_from(self.len())?.store(cx, to.plus(POINTER_BYTES))?;
        T::store_list(self, cx, to)
    }
}

impl Wit for String {
    in_the_form_of!(Vec<u8>);

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        types.is_primitive(ty, PrimitiveValType::String)
    }
}

impl Lift for String {
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        Ok(Self::from_utf8(Vec::from_flat(cx, flat)?)?)
    }

    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
        Ok(Self::from_utf8(Vec::load(cx, bytes)?)?)
    }
}

impl Lower for String {
    fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
        self.into_bytes().store(cx, to)
    }
}

/// A variant's discriminant is one byte: no variant here has more than 256 cases.
const CASE_BYTES: usize = 1;

/// The offset of a variant's payload, from the alignments of its cases' payloads.
pub(crate) const fn payload_offset(aligns: &[usize]) -> usize {
    align_to(CASE_BYTES, max(aligns))
}

/// A variant's size, from the sizes and alignments of its cases' payloads.
pub(crate) const fn variant_size(sizes: &[usize], aligns: &[usize]) -> usize {
    align_to(payload_offset(aligns) + max(sizes), max(&[CASE_BYTES, max(aligns)]))
}

/// The flat form of a variant: the discriminant, then core values that are each wide enough for every case.
pub(crate) fn flatten_variant(flat: &mut Vec<Flat>, cases: &[fn(&mut Vec<Flat>)]) {
    let mut places: Vec<Flat> = Vec::new();
    for case in cases {
        let mut own = Vec::new();
        case(&mut own);
        for (index, value) in own.into_iter().enumerate() {
            match places.get_mut(index) {
                Some(place) => *place = place.join(value),
                None => places.push(value),
            }
        }
    }
    flat.push(Flat::I32);
    flat.extend(places);
}

/// The discriminant, and the bytes of the payload.
pub(crate) fn load_case(bytes: &[u8], payload_offset: usize) -> (u32, &[u8]) {
    let case = bytes.first().copied().map_or(u32::MAX, u32::from);
    (case, bytes.get(payload_offset..).unwrap_or_default())
}

impl<T: Wit> Wit for Option<T> {
    const SIZE: usize = variant_size(&[T::SIZE], &[T::ALIGN]);
    const ALIGN: usize = T::ALIGN;
    const FLAT: usize = 1 + T::FLAT;
    const HAS_LISTS: bool = T::HAS_LISTS;

    fn flatten(flat: &mut Vec<Flat>) {
        flatten_variant(flat, &[T::flatten]);
    }

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        matches!(types.defined(ty), Some(ComponentDefinedType::Option { ty, .. }) if T::is(types, *ty))
    }
}

impl<T: Lift> Lift for Option<T> {
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        let case = flat.u32()?;
        let mut values = flat.split(T::FLAT);
        match case {
            0 => Ok(None),
            1 => T::from_flat(cx, &mut values).map(Some),
            _ => bail!("invalid option discriminant"),
        }
    }

    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
        match load_case(bytes, payload_offset(&[T::ALIGN])) {
            (0, _) => Ok(None),
            (1, value) => T::load(cx, value).map(Some),
            _ => bail!("invalid option discriminant"),
        }
    }
}

impl<T: Lower> Lower for Option<T> {
    fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
        let Some(value) = self else { return 0_u8.store(cx, to) };
        1_u8.store(cx, to)?;
        value.store(cx, to.plus(payload_offset(&[T::ALIGN])))
    }
}

impl<T: Wit, E: Wit> Wit for Result<T, E> {
    const SIZE: usize = variant_size(&[T::SIZE, E::SIZE], &[T::ALIGN, E::ALIGN]);
    const ALIGN: usize = max(&[T::ALIGN, E::ALIGN]);
    const FLAT: usize = 1 + max(&[T::FLAT, E::FLAT]);
    const HAS_LISTS: bool = T::HAS_LISTS || E::HAS_LISTS;

    fn flatten(flat: &mut Vec<Flat>) {
        flatten_variant(flat, &[T::flatten, E::flatten]);
    }

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        matches!(types.defined(ty), Some(ComponentDefinedType::Result { ok, err, .. })
            if T::is_payload(types, *ok) && E::is_payload(types, *err))
    }
}

impl<T: Lift, E: Lift> Lift for Result<T, E> {
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        let case = flat.u32()?;
        let mut values = flat.split(Self::FLAT - 1);
        match case {
            0 => T::from_flat(cx, &mut values).map(Ok),
            1 => E::from_flat(cx, &mut values).map(Err),
            _ => bail!("invalid expected discriminant"),
        }
    }

    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
        match load_case(bytes, payload_offset(&[T::ALIGN, E::ALIGN])) {
            (0, value) => T::load(cx, value).map(Ok),
            (1, value) => E::load(cx, value).map(Err),
            _ => bail!("invalid expected discriminant"),
        }
    }
}

impl<T: Lower, E: Lower> Lower for Result<T, E> {
    fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
        let value_at = to.plus(payload_offset(&[T::ALIGN, E::ALIGN]));
        match self {
            Ok(value) => {
                0_u8.store(cx, to)?;
                value.store(cx, value_at)
            }
            Err(value) => {
                1_u8.store(cx, to)?;
                value.store(cx, value_at)
            }
        }
    }
}

impl<A: Wit, B: Wit> Wit for (A, B) {
    const SIZE: usize = align_to(second_offset::<A, B>() + B::SIZE, Self::ALIGN);
    const ALIGN: usize = max(&[A::ALIGN, B::ALIGN]);
    const FLAT: usize = A::FLAT + B::FLAT;
    const HAS_LISTS: bool = A::HAS_LISTS || B::HAS_LISTS;

    fn flatten(flat: &mut Vec<Flat>) {
        A::flatten(flat);
        B::flatten(flat);
    }

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        matches!(types.defined(ty), Some(ComponentDefinedType::Tuple(tuple))
            if matches!(*tuple.types, [a, b] if A::is(types, a) && B::is(types, b)))
    }
}

pub(crate) const fn second_offset<A: Wit, B: Wit>() -> usize {
    align_to(A::SIZE, B::ALIGN)
}

impl<A: Lift, B: Lift> Lift for (A, B) {
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        Ok((A::from_flat(cx, flat)?, B::from_flat(cx, flat)?))
    }

    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
        let (first, second) = bytes.split_at_checked(second_offset::<A, B>()).unwrap_or_default();
        Ok((A::load(cx, first)?, B::load(cx, second)?))
    }
}

impl<A: Lower, B: Lower> Lower for (A, B) {
    fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
        self.0.store(cx, to)?;
        self.1.store(cx, to.plus(second_offset::<A, B>()))
    }
}

/// Declares a record of two fields. Its layout is that of a tuple of the same types.
macro_rules! record {
    ($record:ident { $a:ident: $of_a:ty = $name_a:literal, $b:ident: $of_b:ty = $name_b:literal }) => {
        impl $crate::component_abi::Wit for $record {
            $crate::component_abi::in_the_form_of!(($of_a, $of_b));

            fn is(
                types: &$crate::component_abi::WitTypes<'_>,
                ty: wasmparser::component_types::ComponentValType,
            ) -> bool {
                types.is_record(ty, &[($name_a, <$of_a>::is), ($name_b, <$of_b>::is)])
            }
        }

        impl $crate::component_abi::Lift for $record {
            fn from_flat(
                cx: &mut $crate::component_abi::Lifting<'_>,
                flat: &mut $crate::component_abi::FlatValues<'_>,
            ) -> wasmtime::Result<Self> {
                let ($a, $b) = <($of_a, $of_b)>::from_flat(cx, flat)?;
                Ok(Self { $a, $b })
            }

            fn load(cx: &mut $crate::component_abi::Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
                let ($a, $b) = <($of_a, $of_b)>::load(cx, bytes)?;
                Ok(Self { $a, $b })
            }
        }

        impl $crate::component_abi::Lower for $record {
            fn store(
                self,
                cx: &mut $crate::component_abi::Lowering<'_>,
                to: $crate::component_abi::Location,
            ) -> wasmtime::Result<()> {
                (self.$a, self.$b).store(cx, to)
            }
        }
    };
}

/// Declares a variant: its cases in WIT's order, with their WIT names.
macro_rules! variant {
    ($variant:ident { $($name:literal => $case:ident $(($of:ty))?,)+ }) => {
        const _: () = {
            use $crate::component_abi::*;

            /// The discriminants of the cases.
            #[repr(u8)]
            enum Case { $($case,)+ }

            const SIZES: &[usize] = &[0, $($(<$of as Wit>::SIZE,)?)+];
            const ALIGNS: &[usize] = &[1, $($(<$of as Wit>::ALIGN,)?)+];
            const FLATS: &[usize] = &[0, $($(<$of as Wit>::FLAT,)?)+];

            impl Wit for $variant {
                const SIZE: usize = variant_size(SIZES, ALIGNS);
                const ALIGN: usize = max(ALIGNS);
                const FLAT: usize = 1 + max(FLATS);
                const HAS_LISTS: bool = false $($(|| <$of as Wit>::HAS_LISTS)?)+;

                fn flatten(flat: &mut Vec<Flat>) {
                    flatten_variant(flat, &[$($(<$of as Wit>::flatten,)?)+]);
                }

                fn is(types: &WitTypes<'_>, ty: wasmparser::component_types::ComponentValType) -> bool {
                    types.is_variant(ty, &[$(($name, variant!(@payload $($of)?)),)+])
                }
            }

            impl Lift for $variant {
                fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
                    let case = flat.u32()?;
                    let mut values = flat.split(Self::FLAT - 1);
                    let _ = (&mut *cx, &mut values);
                    $(if case == Case::$case as u32 {
                        return Ok(Self::$case $((<$of as Lift>::from_flat(cx, &mut values)?))?);
                    })+
                    wasmtime::bail!("unexpected discriminant: {case}")
                }

                fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
                    let (case, value) = load_case(bytes, payload_offset(ALIGNS));
                    let _ = (&mut *cx, value);
                    $(if case == Case::$case as u32 {
                        return Ok(Self::$case $((<$of as Lift>::load(cx, value)?))?);
                    })+
                    wasmtime::bail!("unexpected discriminant: {case}")
                }
            }

            impl Lower for $variant {
                fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
                    variant! { @store self cx to $(($case $($of)?))+ }
                }
            }
        };
    };
    (@pattern $case:ident $value:ident) => { Self::$case };
    (@pattern $case:ident $value:ident $of:ty) => { Self::$case($value) };
    (@payload) => { None };
    (@payload $of:ty) => { Some(<$of as Wit>::is) };
    (@store $self:ident $cx:ident $to:ident $(($case:ident $($of:ty)?))+) => {
        match $self {
            $(variant!(@pattern $case value $($of)?) => {
                (Case::$case as u8).store($cx, $to)?;
                $(<$of as Lower>::store(value, $cx, $to.plus(payload_offset(ALIGNS)))?;)?
            })+
        }
        Ok(())
    };
}

/// Declares an enum of WIT: its cases in WIT's order, with their WIT names.
macro_rules! enumeration {
    ($enumeration:ident { $($name:literal => $case:ident,)+ }) => {
        const _: () = {
            use $crate::component_abi::*;

            impl Wit for $enumeration {
                in_the_form_of!(u8);

                fn is(types: &WitTypes<'_>, ty: wasmparser::component_types::ComponentValType) -> bool {
                    types.is_enum(ty, &[$($name),+])
                }
            }

            impl Lift for $enumeration {
                fn from_flat(_: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
                    case(flat.u32()?)
                }

                fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
                    case(u8::load(cx, bytes)?.into())
                }
            }

            fn case(case: u32) -> wasmtime::Result<$enumeration> {
                let cases = [$($enumeration::$case),+];
                let case = usize::try_from(case).ok().and_then(|case| cases.into_iter().nth(case));
                case.ok_or_else(|| wasmtime::format_err!("unexpected discriminant"))
            }

            impl Lower for $enumeration {
                fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
                    (self as u8).store(cx, to)
                }
            }
        };
    };
}

pub(crate) use {enumeration, record, variant};
