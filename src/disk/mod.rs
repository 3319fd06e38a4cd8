//! The disk: partition plan, budget, assembly.
