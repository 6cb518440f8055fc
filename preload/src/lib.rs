//! libonwire.so.
