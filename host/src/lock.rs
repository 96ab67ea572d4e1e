//! Locks that nobody holds while anything can panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is locked. One that was poisoned all the same has nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
