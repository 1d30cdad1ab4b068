//! The state of a connection, as far as its requests tell. Shared by the service that answers them, the
//! watch, and the wire.

use crate::proxy::tunnel::Tunnel;
use hyper::body::{Body as _, Incoming};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

/// The requests of one connection.
#[derive(Debug, Default)]
pub struct Traffic {
    http2: Cell<bool>,
    under_way: Cell<u32>,
    unread: Cell<bool>,
    over: Cell<bool>,
    tunnel: RefCell<Option<Next>>,
}

/// What a connection goes on with when HTTP has ended there.
struct Next(Tunnel);

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tunnel")
    }
}

/// A request that is being answered, until this is dropped.
#[derive(Debug)]
pub struct UnderWay(Rc<Traffic>);

impl Traffic {
    /// Records that a request has come.
    pub fn begin(self: &Rc<Self>, request: &hyper::Request<Incoming>) -> UnderWay {
        self.http2.set(request.version() == http::Version::HTTP_2);
        self.unread.set(!request.body().is_end_stream());
        self.under_way()
    }

    /// Counts one more request that is being answered.
    pub fn under_way(self: &Rc<Self>) -> UnderWay {
        self.under_way.set(self.under_way.get().saturating_add(1));
        UnderWay(Rc::clone(self))
    }

    /// Whether it has shown that it speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2.get()
    }

    /// Whether no request is being answered.
    pub fn is_idle(&self) -> bool {
        self.under_way.get() == 0
    }

    /// Whether there is more to read of an answered request: with HTTP/1, more of its body.
    pub fn is_unread(&self) -> bool {
        self.unread.get()
    }

    /// Sets whether there is.
    pub fn set_unread(&self, unread: bool) {
        self.unread.set(unread);
    }

    /// The connection goes on with this once its answer is sent.
    pub fn go_on_with(&self, tunnel: Tunnel) {
        *self.tunnel.borrow_mut() = Some(Next(tunnel));
    }

    /// Keeps this until what the connection goes on with has ended; gives it back where it goes on with nothing.
    pub fn keep<T: 'static>(&self, kept: T) -> Option<T> {
        let mut tunnel = self.tunnel.borrow_mut();
        let Some(Next(ours)) = tunnel.take() else {
            return Some(kept);
        };
        *tunnel = Some(Next(Box::pin(async move {
            ours.await;
            drop(kept);
        })));
        None
    }

    /// Whether it goes on with something else.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel.borrow().is_some()
    }

    /// What it goes on with, if with anything.
    pub fn tunnel(&self) -> Option<Tunnel> {
        self.tunnel.borrow_mut().take().map(|next| next.0)
    }

    /// Whether our side of the connection was closed.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Marks our side as closed.
    pub fn set_over(&self) {
        self.over.set(true);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get().saturating_sub(1));
    }
}
