//! `wasi:filesystem` 0.3: the functions of wasmtime-wasi, on the threads of the route.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::oneshot;
use wasmtime::component::{
    Access, Accessor, Destination, FutureReader, Linker, Resource, Source, StreamConsumer, StreamProducer,
    StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode as ErrorCodeP2, HostDescriptor as HostDescriptorP2};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsResult, Pollable, StreamError};
use wasmtime_wasi::p3::bindings::filesystem::preopens;
use wasmtime_wasi::p3::bindings::filesystem::types::{
    self, DescriptorFlags, DirectoryEntry, ErrorCode, Filesize, HostDescriptor, HostDescriptorWithStore, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};

use super::p2::{Files, FilesView, view};
use crate::wasi::file_threads::{Blocked, Call};
use crate::wasi::state::State;

/// The most that a stream transfers at once, as in wasmtime-wasi.
const BUFFER_BYTES: usize = 8 << 10;

/// How a stream has ended.
type End = Result<(), ErrorCode>;

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    preopens::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    types::add_to_linker::<State, Files>(linker, view)
}

fn begin(store: &Accessor<State, Files>, descriptor: &Resource<Descriptor>) -> FilesystemResult<Call> {
    let call = store.with(|mut store| store.get().begin(descriptor)).map_err(FilesystemError::trap)?;
    call.map_err(|Blocked| ErrorCode::Busy.into())
}

/// Functions on one descriptor.
macro_rules! in_thread {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty;)*) => {$(
        async fn $name(
            store: &Accessor<State, Self>,
            fd: Resource<Descriptor>,
            $($argument: $type),*
        ) -> FilesystemResult<$output> {
            let call = begin(store, &fd)?;
            let store = &store.with_getter::<WasiFilesystem>(State::filesystem);
            call.run(<WasiFilesystem as HostDescriptorWithStore<State>>::$name(store, fd, $($argument),*)).await
        }
    )*};
}

impl HostDescriptorWithStore<State> for Files {
    descriptor_functions!(in_thread, types);

    async fn open_at(
        store: &Accessor<State, Self>,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Resource<Descriptor>> {
        let found = Self::stat_at(store, Resource::new_borrow(fd.rep()), path_flags, path.clone()).await;
        if found.is_ok_and(|found| !is_openable!(types, found.type_)) {
            return Err(ErrorCode::NotPermitted.into());
        }
        let call = begin(store, &fd)?;
        let store = &store.with_getter::<WasiFilesystem>(State::filesystem);
        let opened =
            <WasiFilesystem as HostDescriptorWithStore<State>>::open_at(store, fd, path_flags, path, open_flags, flags);
        call.run(opened).await
    }

    async fn is_same_object(
        store: &Accessor<State, Self>,
        fd: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        let call = store.with(|mut store| store.get().begin(&fd))??;
        let store = &store.with_getter::<WasiFilesystem>(State::filesystem);
        call.run(<WasiFilesystem as HostDescriptorWithStore<State>>::is_same_object(store, fd, other)).await
    }

    fn read_via_stream(
        mut store: Access<'_, State, Self>,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<End>)> {
        let (end, ended) = oneshot::channel();
        let view = &mut store.get();
        let opened = HostDescriptorP2::read_via_stream(view, fd, offset);
        let stream = match taken(opened, |stream| view.inner.table.delete(stream))? {
            Ok(stream) => StreamReader::new(&mut store, Reading { stream, end: Some(end) })?,
            Err(code) => {
                let _ = end.send(Err(code));
                StreamReader::new(&mut store, std::iter::empty())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, ended)?))
    }

    fn write_via_stream(
        mut store: Access<'_, State, Self>,
        fd: Resource<Descriptor>,
        data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<FutureReader<End>> {
        let opened = HostDescriptorP2::write_via_stream(&mut store.get(), fd, offset);
        write(store, data, opened)
    }

    fn append_via_stream(
        mut store: Access<'_, State, Self>,
        fd: Resource<Descriptor>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<End>> {
        let opened = HostDescriptorP2::append_via_stream(&mut store.get(), fd);
        write(store, data, opened)
    }

    fn read_directory(
        mut store: Access<'_, State, Self>,
        fd: Resource<Descriptor>,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, FutureReader<End>)> {
        let files = store.get().files;
        // The listing occupies one thread from here to its end.
        let _entered = files.enter();
        let store = Access::<State, WasiFilesystem>::new(store.as_context_mut(), State::filesystem);
        <WasiFilesystem as HostDescriptorWithStore<State>>::read_directory(store, fd)
    }
}

impl types::Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }
}

impl HostDescriptor for FilesView<'_> {
    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.inner, fd)
    }
}

/// The stream that `opened` holds, taken out of the table, or the error as an error code of 0.3.
fn taken<S: 'static>(
    opened: FsResult<Resource<S>>,
    take: impl FnOnce(Resource<S>) -> Result<S, wasmtime::component::ResourceTableError>,
) -> wasmtime::Result<Result<S, ErrorCode>> {
    match opened {
        Ok(stream) => Ok(Ok(take(stream)?)),
        Err(error) => Ok(Err(match error.downcast()? {
            ErrorCodeP2::IsDirectory => ErrorCode::IsDirectory,
            ErrorCodeP2::NotPermitted => ErrorCode::NotPermitted,
            _ => ErrorCode::BadDescriptor,
        })),
    }
}

fn write(
    mut store: Access<'_, State, Files>,
    mut data: StreamReader<u8>,
    opened: FsResult<Resource<DynOutputStream>>,
) -> wasmtime::Result<FutureReader<End>> {
    let (end, ended) = oneshot::channel();
    match taken(opened, |stream| store.get().inner.table.delete(stream))? {
        Ok(stream) => data.pipe(&mut store, Writing { stream, in_progress: false, end: Some(end) })?,
        Err(code) => {
            data.close(&mut store)?;
            let _ = end.send(Err(code));
        }
    }
    FutureReader::new(&mut store, ended)
}

/// A stream from a file to the guest.
struct Reading {
    stream: DynInputStream,
    end: Option<oneshot::Sender<End>>,
}

/// A stream from the guest to a file.
struct Writing {
    stream: DynOutputStream,
    /// Whether bytes taken from the guest are being written.
    in_progress: bool,
    end: Option<oneshot::Sender<End>>,
}

/// Reports to the guest how the stream has ended.
fn finish(end: &mut Option<oneshot::Sender<End>>, error: StreamError) -> wasmtime::Result<StreamResult> {
    let outcome = match error {
        StreamError::Closed => Ok(()),
        StreamError::LastOperationFailed(error) => Err(error.downcast::<std::io::Error>()?.into()),
        StreamError::Trap(error) => return Err(error),
    };
    if let Some(end) = end.take() {
        let _ = end.send(outcome);
    }
    Ok(StreamResult::Dropped)
}

impl StreamProducer<State> for Reading {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, State>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        finish_now: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        loop {
            match this.stream.read(BUFFER_BYTES) {
                Ok(bytes) if !bytes.is_empty() => {
                    destination.set_buffer(bytes);
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                Ok(_nothing_yet) => {}
                Err(error) => return Poll::Ready(finish(&mut this.end, error)),
            }
            match pin!(this.stream.ready()).poll(context) {
                Poll::Ready(()) => {}
                // The data of the read in progress is kept for the next poll.
                Poll::Pending if finish_now => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl StreamConsumer<State> for Writing {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'_, State>,
        source: Source<'_, Self::Item>,
        _finish_now: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        if !this.in_progress {
            let mut source = source.as_direct(store);
            let bytes = source.remaining();
            let bytes = Bytes::copy_from_slice(bytes.get(..BUFFER_BYTES).unwrap_or(bytes));
            if bytes.is_empty() {
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            let length = bytes.len();
            if let Err(error) = this.stream.write(bytes) {
                return Poll::Ready(finish(&mut this.end, error));
            }
            source.mark_read(length);
            this.in_progress = true;
        }
        // A write in progress cannot be cancelled.
        ready!(pin!(this.stream.ready()).poll(context));
        this.in_progress = false;
        Poll::Ready(match this.stream.check_write() {
            Ok(_) => Ok(StreamResult::Completed),
            Err(error) => finish(&mut this.end, error),
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _ = finish(&mut self.end, StreamError::Closed);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let _ = finish(&mut self.end, StreamError::Closed);
    }
}
