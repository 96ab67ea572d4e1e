//! Names of interfaces and functions, as core modules import them.

/// The releases of WASI whose functions are provided.
pub(super) const P2: &str = "0.2";
pub(super) const P3: &str = "0.3";

/// The module from which built-ins are imported.
pub(super) const BUILT_IN: &str = "canon";

/// The name of the async-lowered form of a function.
pub(crate) fn async_name(name: &str) -> String {
    format!("[async-lower]{name}")
}

/// The name of the function that drops a resource's handle.
pub(crate) fn drop_name(resource: &str) -> String {
    format!("[resource-drop]{resource}")
}

/// An interface with the release that its version belongs to: `wasi:http/types@0.2`. All other versions are compatible
/// only with themselves, so an interface keeps its whole version. None without a version.
pub(crate) fn release(interface: &str) -> Option<&str> {
    let (name, version) = interface.split_once('@')?;
    let of = |release: &&str| {
        let patch = version.strip_prefix(*release).and_then(|rest| rest.strip_prefix('.'));
        patch.is_some_and(|patch| !patch.contains('-'))
    };
    match [P2, P3].into_iter().find(of) {
        Some(release) => interface.get(..name.len() + 1 + release.len()),
        None => Some(interface),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_release_are_compatible_and_others_only_with_themselves() {
        for (interface, expected) in [
            ("wasi:http/types@0.2.12", Some("wasi:http/types@0.2")),
            ("wasi:http/types@0.3.0", Some("wasi:http/types@0.3")),
            ("wasi:http/types@0.3.0-rc-2026-03-15", Some("wasi:http/types@0.3.0-rc-2026-03-15")),
            ("wasi:logging/logging@0.1.0-draft", Some("wasi:logging/logging@0.1.0-draft")),
            ("spin:key-value/key-value@3.0.0", Some("spin:key-value/key-value@3.0.0")),
            ("wasi:http/types@0.20.0", Some("wasi:http/types@0.20.0")),
            ("wasi:http/types", None),
        ] {
            assert_eq!(release(interface), expected, "{interface}");
        }
    }
}
