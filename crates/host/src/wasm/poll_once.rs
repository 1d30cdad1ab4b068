//! `wasi:io/streams` for calls that never wait: each future is polled once, and one that would have to wait
//! is a trap. (wasmtime-wasi's own synchronous functions, even the one that drops a stream, enter a Tokio
//! runtime, which panics on a thread that drives one.)

use super::guest::Guest;
use futures::FutureExt as _;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::p2::bindings::sync::io::streams::{self, Host, HostInputStream, HostOutputStream};
use wasmtime_wasi::p2::{DynInputStream as Input, DynOutputStream as Output};
use wasmtime_wasi::p2::{DynPollable, StreamError, StreamResult};

/// The resources of a guest, used without waiting.
struct PollOnce<'a>(&'a mut ResourceTable);

impl HasData for PollOnce<'static> {
    type Data<'a> = PollOnce<'a>;
}

/// Puts these functions in the place of those that are linked.
pub fn replace_streams(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    streams::add_to_linker::<_, PollOnce<'static>>(linker, |guest: &mut Guest| PollOnce(guest.ctx().table))?;
    linker.allow_shadowing(false);
    Ok(())
}

fn poll_once<T>(result: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    let result = result.now_or_never();
    result.unwrap_or_else(|| Err(StreamError::trap("nothing here may wait")))
}

impl Host for PollOnce<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        Host::convert_stream_error(self.0, error)
    }
}

impl HostOutputStream for PollOnce<'_> {
    fn drop(&mut self, stream: Resource<Output>) -> wasmtime::Result<()> {
        self.0.delete(stream)?;
        Ok(())
    }

    fn check_write(&mut self, stream: Resource<Output>) -> StreamResult<u64> {
        HostOutputStream::check_write(self.0, stream)
    }

    fn write(&mut self, stream: Resource<Output>, bytes: Vec<u8>) -> StreamResult<()> {
        HostOutputStream::write(self.0, stream, bytes)
    }

    fn blocking_write_and_flush(&mut self, stream: Resource<Output>, bytes: Vec<u8>) -> StreamResult<()> {
        poll_once(self.0.get_mut(&stream)?.blocking_write_and_flush(bytes.into()))
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Resource<Output>, length: u64) -> StreamResult<()> {
        HostOutputStream::write_zeroes(self.0, stream, length)
    }

    fn subscribe(&mut self, stream: Resource<Output>) -> wasmtime::Result<Resource<DynPollable>> {
        HostOutputStream::subscribe(self.0, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<Output>, length: u64) -> StreamResult<()> {
        HostOutputStream::write_zeroes(self.0, stream, length)
    }

    fn flush(&mut self, stream: Resource<Output>) -> StreamResult<()> {
        HostOutputStream::flush(self.0, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<Output>) -> StreamResult<()> {
        self.0.get_mut(&stream)?.flush()
    }

    fn splice(&mut self, to: Resource<Output>, from: Resource<Input>, length: u64) -> StreamResult<u64> {
        HostOutputStream::splice(self.0, to, from, length)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<Output>,
        from: Resource<Input>,
        length: u64,
    ) -> StreamResult<u64> {
        HostOutputStream::splice(self.0, to, from, length)
    }
}

impl HostInputStream for PollOnce<'_> {
    fn drop(&mut self, stream: Resource<Input>) -> wasmtime::Result<()> {
        self.0.delete(stream)?;
        Ok(())
    }

    fn read(&mut self, stream: Resource<Input>, length: u64) -> StreamResult<Vec<u8>> {
        HostInputStream::read(self.0, stream, length)
    }

    fn blocking_read(&mut self, stream: Resource<Input>, length: u64) -> StreamResult<Vec<u8>> {
        HostInputStream::read(self.0, stream, length)
    }

    fn skip(&mut self, stream: Resource<Input>, length: u64) -> StreamResult<u64> {
        HostInputStream::skip(self.0, stream, length)
    }

    fn blocking_skip(&mut self, stream: Resource<Input>, length: u64) -> StreamResult<u64> {
        HostInputStream::skip(self.0, stream, length)
    }

    fn subscribe(&mut self, stream: Resource<Input>) -> wasmtime::Result<Resource<DynPollable>> {
        HostInputStream::subscribe(self.0, stream)
    }
}
