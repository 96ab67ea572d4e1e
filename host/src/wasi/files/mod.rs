//! Files of granted directories: the functions of `wasi:filesystem`, each run on the threads of its route.

/// The functions on one descriptor that both releases have. `$implement!` implements them; `$types` is the module with
/// the types of the release.
macro_rules! descriptor_functions {
    ($implement:ident, $types:ident) => {
        $implement! {
            fn advise(offset: $types::Filesize, length: $types::Filesize, advice: $types::Advice) -> ();
            fn sync_data() -> ();
            fn get_flags() -> $types::DescriptorFlags;
            fn get_type() -> $types::DescriptorType;
            fn set_size(size: $types::Filesize) -> ();
            fn set_times(accessed: $types::NewTimestamp, modified: $types::NewTimestamp) -> ();
            fn sync() -> ();
            fn create_directory_at(path: String) -> ();
            fn stat() -> $types::DescriptorStat;
            fn stat_at(flags: $types::PathFlags, path: String) -> $types::DescriptorStat;
            fn set_times_at(
                flags: $types::PathFlags,
                path: String,
                accessed: $types::NewTimestamp,
                modified: $types::NewTimestamp
            ) -> ();
            fn link_at(flags: $types::PathFlags, path: String, new: Resource<Descriptor>, new_path: String) -> ();
            fn readlink_at(path: String) -> String;
            fn remove_directory_at(path: String) -> ();
            fn rename_at(path: String, new: Resource<Descriptor>, new_path: String) -> ();
            fn symlink_at(path: String, new_path: String) -> ();
            fn unlink_file_at(path: String) -> ();
            fn metadata_hash() -> $types::MetadataHashValue;
            fn metadata_hash_at(flags: $types::PathFlags, path: String) -> $types::MetadataHashValue;
        }
    };
}

/// Whether opening and reading a file of the type `$kind` returns: a named pipe blocks until its other end is opened,
/// and a device may block for any time. (The target of a symbolic link is checked when the link is followed.)
macro_rules! is_openable {
    ($types:ident, $kind:expr) => {
        matches!(
            $kind,
            $types::DescriptorType::RegularFile
                | $types::DescriptorType::Directory
                | $types::DescriptorType::SymbolicLink
        )
    };
}

pub(super) mod p2;
pub(super) mod p3;
mod streams;
