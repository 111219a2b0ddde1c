//! World and scope in, snapshot and diagnostics out. Pure.
