//! (smtp)
