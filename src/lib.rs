//! omk
