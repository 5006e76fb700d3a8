//! Truth tables that others have made, through resources, translation and engine.

mod kubernetes;
