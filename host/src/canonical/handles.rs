//! A guest's handles of the host's resources.
//!
//! The ABI counts how often a handle is lent, so that nobody takes away what another still uses. Here nobody can: the
//! guest does not run while a function of the host has what it borrowed, and no function borrows a resource and
//! takes over another of the same type.

use std::any::TypeId;

use wasmparser::component_types::{ComponentDefinedType, ComponentValType};
use wasmtime::bail;
use wasmtime::component::Resource;

use super::{FlatValues, Lift, Lifting, Lower, Lowering, Place, Wit, WitTypes};

/// A resource of the host's that a WIT interface defines.
pub(crate) trait HostResource: 'static {
    /// That interface, without its version.
    const INTERFACE: &'static str;
    const NAME: &'static str;
}

/// What an ordinary request has at a time.
const EXPECTED_HANDLES: usize = 8;

/// The table of one instance. Handles of it begin with 1, as the ABI wants it.
#[derive(Debug, Default)]
pub(super) struct Handles {
    entries: Vec<Entry>,
    /// The handle that was given back last, or 0.
    free: u32,
}

#[derive(Debug)]
enum Entry {
    Owned {
        of: TypeId,
        rep: u32,
    },
    /// The next free one, or 0.
    Free(u32),
}

impl Handles {
    pub(super) fn insert<T: 'static>(&mut self, resource: &Resource<T>) -> wasmtime::Result<u32> {
        let owned = Entry::Owned { of: TypeId::of::<T>(), rep: resource.rep() };
        if let Some(entry) = self.entry(self.free)
            && let Entry::Free(next) = *entry
        {
            *entry = owned;
            return Ok(std::mem::replace(&mut self.free, next));
        }
        if self.entries.is_empty() {
            self.entries.reserve(EXPECTED_HANDLES);
        }
        self.entries.push(owned);
        Ok(u32::try_from(self.entries.len())?)
    }

    fn entry(&mut self, handle: u32) -> Option<&mut Entry> {
        self.entries.get_mut((handle as usize).checked_sub(1)?)
    }

    fn rep<T: HostResource>(&mut self, handle: u32) -> wasmtime::Result<u32> {
        match self.entry(handle) {
            Some(Entry::Owned { of, rep }) if *of == TypeId::of::<T>() => Ok(*rep),
            Some(Entry::Owned { .. }) => bail!("handle index {handle} is not of a {}", T::NAME),
            _ => bail!("unknown handle index {handle}"),
        }
    }

    fn remove<T: HostResource>(&mut self, handle: u32) -> wasmtime::Result<Resource<T>> {
        let rep = self.rep::<T>(handle)?;
        let next = self.free;
        if let Some(entry) = self.entry(handle) {
            *entry = Entry::Free(next);
        }
        self.free = handle;
        Ok(Resource::new_own(rep))
    }
}

/// A handle that is only lent to a function.
pub(crate) struct Borrow<T: 'static>(pub(crate) Resource<T>);

impl<T: HostResource> Wit for Borrow<T> {
    in_the_form_of!(u32);

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        matches!(types.defined(ty), Some(ComponentDefinedType::Borrow(id)) if types.is_resource::<T>(*id))
    }
}

impl<T: HostResource> Lift for Borrow<T> {
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        Ok(Self(Resource::new_borrow(cx.handles.rep::<T>(flat.u32()?)?)))
    }

    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
        let handle = u32::load(cx, bytes)?;
        Ok(Self(Resource::new_borrow(cx.handles.rep::<T>(handle)?)))
    }
}

/// A handle that is handed over.
impl<T: HostResource> Wit for Resource<T> {
    in_the_form_of!(u32);

    fn is(types: &WitTypes<'_>, ty: ComponentValType) -> bool {
        matches!(types.defined(ty), Some(ComponentDefinedType::Own(id)) if types.is_resource::<T>(*id))
    }
}

impl<T: HostResource> Lift for Resource<T> {
    fn from_flat(cx: &mut Lifting<'_>, flat: &mut FlatValues<'_>) -> wasmtime::Result<Self> {
        cx.handles.remove(flat.u32()?)
    }

    fn load(cx: &mut Lifting<'_>, bytes: &[u8]) -> wasmtime::Result<Self> {
        let handle = u32::load(cx, bytes)?;
        cx.handles.remove(handle)
    }
}

impl<T: HostResource> Lower for Resource<T> {
    fn store(self, cx: &mut Lowering<'_>, to: Place) -> wasmtime::Result<()> {
        let handle = cx.handles.insert(&self)?;
        handle.store(cx, to)
    }
}
