//! Certificate authorities and leaves: what certificates say, and how they are made. Time comes in as an argument.

mod development;
mod facts;

pub use development::{Development, MakeError, make_development, was_made_here};
pub use facts::{Facts, NotACertificate, Validity};
