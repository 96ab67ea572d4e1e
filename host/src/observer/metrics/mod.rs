//! The metrics page: what is reported, and the forms in which Prometheus reads it.

mod collect;
mod families;
mod family;
mod format;
mod page;
mod process;
mod protobuf;
#[cfg(test)]
mod tests;
mod text;

use families::FAMILIES;
pub(super) use format::Format;
pub(crate) use page::Limits;
pub(super) use page::Page;

/// Writes all families in a format.
pub(super) fn write(page: &Page, format: Format) -> Vec<u8> {
    let families = FAMILIES.iter().map(|row| row.family(page));
    match format {
        Format::Text => text::write(families, text::Form::Prometheus).into_bytes(),
        Format::OpenMetrics => text::write(families, text::Form::OpenMetrics).into_bytes(),
        Format::Protobuf => protobuf::write(families),
    }
}
