//! Scalar types: integers, `bool`, and the absence of a value.

use wasmparser::PrimitiveValType;
use wasmparser::component_types::ComponentValType;

use super::{Flat, FlatValues, Lift, Lifting, Location, Lower, Lowering, Wit, WitTypes};

macro_rules! number {
    ($number:ty, $wit:ident, $flat:ident, $read:ident $(, { $($lift:tt)* } { $($lower:tt)* })?) => {
        impl Wit for $number {
            const SIZE: usize = size_of::<Self>();
            const ALIGN: usize = size_of::<Self>();
            const FLAT: usize = 1;
            const HAS_LISTS: bool = false;

            fn flatten(flat: &mut Vec<Flat>) {
                flat.push(Flat::$flat);
            }

            fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
                types.is_primitive(ty, PrimitiveValType::$wit)
            }
        }

        impl Lift for $number {
            #[allow(clippy::cast_possible_truncation, reason = "as the ABI says: further bits are ignored")]
            fn from_flat(_: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
                Ok(flat.$read()? as Self)
            }

            fn load(_: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
                let bytes = bytes.first_chunk().ok_or_else(|| wasmtime::format_err!("a number is cut off"))?;
                Ok(Self::from_le_bytes(*bytes))
            }

            $($($lift)*)?
        }

        impl Lower for $number {
            fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
                cx.write(to, &self.to_le_bytes());
                Ok(())
            }

            $($($lower)*)?
        }
    };
}

number!(u8, U8, I32, u32, {
    // One copy for all bytes.
    fn load_list(_: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Vec<Self>> {
        Ok(bytes.to_vec())
    }
} {
    fn store_list(list: Vec<Self>, cx: &mut Lowering<'_>, pointer_at: Location) -> wasmtime::Result<()> {
        cx.allocate(list, 1, pointer_at);
        Ok(())
    }
});
number!(u16, U16, I32, u32);
number!(u32, U32, I32, u32);
number!(u64, U64, I64, u64);
number!(i64, S64, I64, u64);

impl Wit for bool {
    in_the_form_of!(u8);

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        types.is_primitive(ty, PrimitiveValType::Bool)
    }
}

impl Lower for bool {
    fn store(self, cx: &mut Lowering<'_>, to: Location) -> wasmtime::Result<()> {
        u8::from(self).store(cx, to)
    }
}

/// No value: of a function without a result, and of a `result`'s case without a payload.
impl Wit for () {
    const SIZE: usize = 0;
    const ALIGN: usize = 1;
    const FLAT: usize = 0;
    const HAS_LISTS: bool = false;

    fn flatten(_: &mut Vec<Flat>) {}

    fn is(_: &WitTypes<'_>, _: ComponentValType) -> bool {
        false
    }

    fn is_payload(_: &WitTypes<'_>, ty: Option<ComponentValType>) -> bool {
        ty.is_none()
    }
}

impl Lift for () {
    fn from_flat(_: &mut Lifting<'_>, _: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        Ok(())
    }

    fn load(_: &mut Lifting<'_>, _: &[u8]) -> wasmtime::Result<Self> {
        Ok(())
    }
}

impl Lower for () {
    fn store(self, _: &mut Lowering<'_>, _: Location) -> wasmtime::Result<()> {
        Ok(())
    }
}
