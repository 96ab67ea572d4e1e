//! Enums whose variants are words in logs and metrics.

/// Declares such an enum. A row is `Variant = "word", "meaning";`. Its position is the number that processes
/// of one version exchange. Programs read the words: they may be added, but not changed or removed.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident;

        $($variant:ident = $word:literal, $meaning:literal;)+
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $(#[doc = $meaning] $variant,)+
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word for it in logs and metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// What it means, for the documentation.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)+
                }
            }

            /// The one with this number, if there is one.
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number)).copied()
            }

            /// The number that processes exchange.
            pub fn number(self) -> u8 {
                self as u8
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
    use crate::connection_end::{ConnectionEnd, NotAccepted};
    use crate::process_role::ProcessRole;
    use crate::request_outcome::RequestOutcome;
    use crate::schedule::RunOutcome;

    /// Numbers lead to their variants, and words are words, each used once.
    macro_rules! check {
        ($name:ident) => {
            for (number, each) in (0..).zip($name::ALL) {
                assert_eq!((each.number(), $name::from_number(number)), (number, Some(*each)));
                let word = each.as_str();
                assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{word}");
                assert_eq!($name::ALL.iter().filter(|other| other.as_str() == word).count(), 1, "{word}");
            }
            assert_eq!($name::from_number($name::ALL.len() as u8), None);
        };
    }

    #[test]
    fn numbers_and_words_are_unique() {
        check!(RequestOutcome);
        check!(ConnectionEnd);
        check!(NotAccepted);
        check!(ProcessRole);
        check!(RunOutcome);
    }
}
