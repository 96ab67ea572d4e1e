//! The fields of a request that was received, as its guest sees them.

use http::HeaderMap;
use http::header::{HOST, HeaderValue};
use wasmtime_wasi_http::{FieldMap, WasiHttpHooks};

use crate::observe::trace_context::RequestIds;

/// The fields of a request, as they were received until the guest looks at them: many guests do not, and need not pay for
/// their fields. Only then they get the request's ids, and lose those that guests may not see.
pub(crate) enum ReceivedFields {
    Unseen(HeaderMap, RequestIds),
    Seen {
        fields: FieldMap,
        /// Guests may not see it among the fields.
        host: Option<HeaderValue>,
    },
}

impl ReceivedFields {
    pub(crate) fn new(headers: HeaderMap, ids: RequestIds) -> Self {
        Self::Unseen(headers, ids)
    }

    /// Those that the guest makes itself.
    pub(crate) fn made(fields: FieldMap) -> Self {
        Self::Seen { fields, host: None }
    }

    /// What the guest sees.
    pub(crate) fn see(&mut self, hooks: &mut dyn WasiHttpHooks) -> FieldMap {
        let (fields, host) = match self {
            Self::Seen { fields, .. } => return fields.clone(),
            Self::Unseen(headers, ids) => {
                let mut headers = std::mem::take(headers);
                ids.put_into_request(&mut headers);
                let host = headers.get(HOST).cloned();
                (FieldMap::new_immutable(hooks, headers), host)
            }
        };
        *self = Self::Seen { fields: fields.clone(), host };
        fields
    }

    /// What the guest sees, as it leaves the guest.
    pub(crate) fn into_map(mut self, hooks: &mut dyn WasiHttpHooks) -> HeaderMap {
        let fields = self.see(hooks);
        // Otherwise the map would be shared, and copied.
        drop(self);
        fields.into()
    }

    /// The value of `Host`.
    pub(crate) fn host(&self) -> Option<&HeaderValue> {
        match self {
            Self::Unseen(headers, _) => headers.get(HOST),
            Self::Seen { host, .. } => host.as_ref(),
        }
    }

    /// The fields by now, for measuring them.
    pub(crate) fn map(&self) -> &HeaderMap {
        match self {
            Self::Unseen(headers, _) => headers,
            Self::Seen { fields, .. } => fields,
        }
    }
}
