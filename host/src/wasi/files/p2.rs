//! `wasi:filesystem` 0.2: the functions of wasmtime-wasi, on the threads of the route.

use std::any::Any;
use std::sync::{Arc, Weak};

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, DescriptorFlags, DirectoryEntry, DirectoryEntryStream, ErrorCode, Filesize, HostDescriptor,
    HostDirectoryEntryStream, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::streams::{Input, Output};
use crate::wasi::file_threads::{Blocked, Call, RouteFiles, Token};
use crate::wasi::state::State;

/// The marker type for which the functions are added to the linker.
pub(super) struct Files;

impl HasData for Files {
    type Data<'a> = FilesView<'a>;
}

/// The files of one guest.
pub(super) struct FilesView<'a> {
    pub(super) files: Arc<RouteFiles>,
    pub(super) inner: WasiFilesystemCtxView<'a>,
}

pub(super) fn view(state: &mut State) -> FilesView<'_> {
    FilesView { files: Arc::clone(state.files()), inner: state.filesystem() }
}

impl FilesView<'_> {
    /// Starts a call on `descriptor`. The call keeps the file open while it is in progress, so the file is its token.
    pub(super) fn begin(&self, descriptor: &Resource<Descriptor>) -> wasmtime::Result<Result<Call, Blocked>> {
        Ok(self.files.begin(token(self.inner.table.get(descriptor)?)))
    }

    fn begin_p2(&self, descriptor: &Resource<Descriptor>) -> FsResult<Call> {
        self.begin(descriptor).map_err(FsError::trap)?.map_err(|Blocked| ErrorCode::Busy.into())
    }
}

pub(super) fn token(descriptor: &Descriptor) -> Token {
    let file: Weak<dyn Any + Send + Sync> = match descriptor {
        Descriptor::File(file) => Arc::downgrade(&file.file) as _,
        Descriptor::Dir(dir) => Arc::downgrade(&dir.dir) as _,
    };
    file
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    preopens::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    types::add_to_linker::<State, Files>(linker, view)
}

impl types::Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.inner.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.inner.filesystem_error_code(error)
    }
}

/// Functions on one descriptor.
macro_rules! in_thread {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty;)*) => {$(
        async fn $name(&mut self, fd: Resource<Descriptor>, $($argument: $type),*) -> FsResult<$output> {
            let call = self.begin_p2(&fd)?;
            call.run(self.inner.$name(fd, $($argument),*)).await
        }
    )*};
}

impl HostDescriptor for FilesView<'_> {
    in_thread! {
        fn read(length: Filesize, offset: Filesize) -> (Vec<u8>, bool);
        fn write(bytes: Vec<u8>, offset: Filesize) -> Filesize;
        fn read_directory() -> Resource<DirectoryEntryStream>;
    }

    descriptor_functions!(in_thread, types);

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let found = self.stat_at(Resource::new_borrow(fd.rep()), path_flags, path.clone()).await;
        // If `stat` fails, `open` returns the better error. If the file is replaced between both, the open blocks one
        // thread.
        if found.is_ok_and(|found| !is_openable!(types, found.type_)) {
            return Err(ErrorCode::NotPermitted.into());
        }
        let call = self.begin_p2(&fd)?;
        call.run(self.inner.open_at(fd, path_flags, path, open_flags, flags)).await
    }

    async fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        let call = self.begin(&a)??;
        call.run(self.inner.is_same_object(a, b)).await
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let token = token(self.inner.table.get(&fd)?);
        let stream = self.inner.read_via_stream(fd, offset)?;
        let stream = Input::new(&self.files, token, self.inner.table.delete(stream)?);
        Ok(self.inner.table.push(Box::new(stream) as DynInputStream)?)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        let token = token(self.inner.table.get(&fd)?);
        let stream = self.inner.write_via_stream(fd, offset)?;
        let stream = Output::new(&self.files, token, self.inner.table.delete(stream)?);
        Ok(self.inner.table.push(Box::new(stream) as DynOutputStream)?)
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let token = token(self.inner.table.get(&fd)?);
        let stream = self.inner.append_via_stream(fd)?;
        let stream = Output::new(&self.files, token, self.inner.table.delete(stream)?);
        Ok(self.inner.table.push(Box::new(stream) as DynOutputStream)?)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.inner, fd)
    }
}

impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.inner.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.inner, stream)
    }
}
