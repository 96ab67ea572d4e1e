//! Instances of main modules alone, which are linked directly.

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod agreement03;
#[cfg(test)]
mod agreement_ends;
pub(crate) mod handler;
mod task;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests03;
