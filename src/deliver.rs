//! (deliver)
