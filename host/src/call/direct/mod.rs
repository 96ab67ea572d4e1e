//! Instances of main modules alone, which are linked directly.

#[cfg(test)]
mod differential;
#[cfg(test)]
mod differential_answers;
#[cfg(test)]
mod differential_ends;
#[cfg(test)]
mod differential_p3;
pub(crate) mod handler;
mod task;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_p3;
