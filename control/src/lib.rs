//! Settings and control messages shared by the command and the library.
#![forbid(unsafe_code)]
