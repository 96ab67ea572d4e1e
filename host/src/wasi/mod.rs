//! The interfaces that guests may import.

pub(crate) mod direct;
pub(crate) mod files;
pub(crate) mod host_memory;
pub(crate) mod http;
pub(crate) mod link;
pub(crate) mod output;
pub(crate) mod settings;
pub(crate) mod state;
