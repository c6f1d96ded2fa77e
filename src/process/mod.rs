//! What every long-running command is made of.
