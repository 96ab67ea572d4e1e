//! What an option is, and the macro that makes code from a table of options.

use std::ffi::OsStr;

use super::options::{
    AccessLogOverrides, AdminOverrides, GeneralOverrides, GrantOverrides, LimitOverrides, ServerOverrides,
};
use super::reader::Section;
use super::tables::Table;
use crate::ValueError;

/// An option, as the command line and the documents need it.
#[derive(Debug, Clone)]
pub struct Row {
    /// The table of the file that it belongs in; those of [`Table::Defaults`] may also be in a [`Table::Route`].
    pub table: Table,
    /// Its key in that table.
    pub key: &'static str,
    /// Its default in Markdown: a value as it is written in the file, or words.
    pub default: String,
    /// The range in words; empty if it has none.
    pub range: String,
    /// What it does, in Markdown.
    pub meaning: &'static str,
    /// The flag that overrides it.
    pub flag: Option<Flag>,
}

impl Row {
    pub(super) fn without_flag<V: Clone + Default>(table: Table, kind: &impl Kind<V>, meaning: &'static str) -> Self {
        let (default, range) = (kind.default_text(), kind.range_text());
        Self { table, key: kind.key(), default, range, meaning: meaning.trim_ascii_start(), flag: None }
    }
}

/// A flag, and an environment variable if it has one.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Flags with a lower rank are before it in `--help`; those of the same rank are in the order of their rows.
    pub rank: u8,
    /// `--flag VALUE`, or `--flag` for a switch.
    pub usage: &'static str,
    /// The name of the environment variable.
    pub variable: Option<&'static str>,
    /// One sentence, with the default.
    pub help: String,
    /// How it gets its value.
    pub form: Form,
    /// Parses a value and adds it to the overrides.
    pub set: fn(&mut Overrides, &OsStr) -> Result<(), ValueError>,
}

/// How a flag gets its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// It has none.
    Switch,
    /// One text.
    Text,
    /// One path, which need not be UTF-8.
    Path,
    /// One text each time that it is given.
    Repeated,
    /// One text or several with commas between them, each time that it is given.
    List,
}

/// Options from the command line or from environment variables; by default, none.
///
/// Values are used without validation, so make them with [`Flag::set`] or the types' own `FromStr`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Options of the top level.
    pub general: GeneralOverrides,
    /// Options of `[access_log]`.
    pub access_log: AccessLogOverrides,
    /// Options of `[admin]`.
    pub admin: AdminOverrides,
    /// Options of `[server]`.
    pub server: ServerOverrides,
    /// Limits of `[defaults]`.
    pub limits: LimitOverrides,
    /// Grants of `[defaults]`.
    pub grants: GrantOverrides,
}

/// A kind of options with a value of type `V`. A value of the implementing type describes one option: its key, its
/// default and, if it has one, its range.
pub(super) trait Kind<V: Clone + Default> {
    fn key(&self) -> &'static str;

    fn default(&self) -> V {
        V::default()
    }

    /// See [`Row::default`].
    fn default_text(&self) -> String;

    /// See [`Row::range`].
    fn range_text(&self) -> String {
        String::new()
    }

    fn form(&self) -> Form {
        Form::Text
    }

    /// Reads it from a table of the file. `value` stays as it is if the table has none or an invalid one.
    fn read(&self, section: &mut Section<'_, '_>, value: &mut V);

    /// Parses the value of a flag. `given` is what earlier uses of the same flag have given.
    ///
    /// # Errors
    /// If the value is invalid.
    fn parse_flag(&self, text: &OsStr, given: &mut Option<V>) -> Result<(), ValueError>;

    /// Overrides the value of the file, or the default, by that of flags.
    fn override_with(&self, given: &V, value: &mut V) {
        value.clone_from(given);
    }
}

/// Makes a struct with a field for each row, and a struct with an optional value for each row, which overrides it.
/// `and` adds fields that are no options. The parts of a row are described in [`super::options`].
macro_rules! options {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident in $table:expr, overridden by overrides.$part:ident: $overrides:ident { $(
            $(#[doc = $meaning:literal])+
            $(#[serde($($serde:tt)*)])?
            $field:ident: $type:ty = $kind:expr
                $(, flag ($rank:literal, $usage:literal, $variable:expr, $help:literal))?;
        )* }
        $(and { $(
            $(#[doc = $other_doc:literal])+
            $other:ident: $other_type:ty = $other_default:expr;
        )* })?
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            $(
                $(#[doc = $meaning])+
                $(#[serde($($serde)*)])?
                pub $field: $type,
            )*
            $($($(#[doc = $other_doc])+ pub $other: $other_type,)*)?
        }

        #[doc = concat!("What overrides the options of [`", stringify!($name), "`].")]
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $overrides {
            $(
                #[doc = concat!("See [`", stringify!($name), "::", stringify!($field), "`].")]
                pub $field: Option<$type>,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $kind.default(),)* $($($other: $other_default,)*)? }
            }
        }

        impl $name {
            /// Reads every option from a table of the file.
            pub(super) fn read(&mut self, section: &mut Section<'_, '_>) {
                $($kind.read(section, &mut self.$field);)*
            }

            pub(super) fn override_with(&mut self, overrides: &$overrides) {
                $(if let Some(given) = &overrides.$field {
                    $kind.override_with(given, &mut self.$field);
                })*
            }

            fn rows() -> Vec<Row> {
                vec![$(Row {
                    $(flag: Some(Flag {
                        rank: $rank,
                        usage: $usage,
                        variable: $variable,
                        help: $help.replace("{}", &$kind.default_text().replace(['`', '"'], "")),
                        form: $kind.form(),
                        set: |overrides, text| $kind.parse_flag(text, &mut overrides.$part.$field),
                    }),)?
                    ..Row::without_flag($table, &$kind, concat!($($meaning),+))
                }),*]
            }
        }
    };
}

pub(super) use options;
