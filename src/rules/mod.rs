//! The documents a person writes, and the rules compiled from them.
