//! Certificate authorities and leaves: what certificates say, how they are made, and how one authority gives way to the next without
//! a moment in which anybody is refused. Time comes in as an argument.
//!
//! | file | what |
//! |---|---|
//! | `facts` | what a certificate says of itself |
//! | `certificate` | who issued which, and which bundle trusts which chain |
//! | `authority` | making authorities, and the leaves that they sign |
//! | `development` | both at once, for a person's own machine |
//! | `rotation` | what the Secrets and the `caBundle` hold -> the one write that is due |

mod authority;
mod certificate;
mod development;
mod facts;
pub mod rotation;

pub use authority::{Authority, BEGINS, Leaf, MakeError};
pub use certificate::{Certificate, trusts};
pub use development::{make_development, was_made_here};
pub use facts::{Facts, NotACertificate, Validity};
