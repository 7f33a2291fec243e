//! The plugin interface of wireplug: trait, context, registry and conformance kit
