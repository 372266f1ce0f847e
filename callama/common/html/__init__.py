"""Pages for a browser: one skeleton, one style and the charts, for every report that is written as HTML."""
