//! Image definitions: text in, a checked `Plan` or a spanned error out.
