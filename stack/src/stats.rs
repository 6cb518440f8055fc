//! Counters. A layer declares its own as one table; names, documentation, listings and the C
//! header come from it. Each counts up from zero and wraps after 2^64.

/// Declares a struct of `u64` counters from one table of `/// doc` and name.
#[macro_export]
macro_rules! counters {
    ($(#[$outer:meta])* $vis:vis struct $name:ident { $($(#[doc = $doc:literal])+ $field:ident,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        $vis struct $name { $($(#[doc = $doc])+ pub $field: u64,)* }

        impl $name {
            /// Name and meaning of every counter, in order.
            pub const TABLE: &'static [(&'static str, &'static str)] =
                &[$((stringify!($field), concat!($($doc),+)),)*];

            /// Calls `each` with the name and value of every counter, in the table's order.
            pub fn for_each(&self, mut each: impl FnMut(&'static str, u64)) {
                $(each(stringify!($field), self.$field);)*
            }
        }
    };
}
