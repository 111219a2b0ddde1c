//! What the Makefile calls: generate, check.
