"""Raw rows of glaive-function-calling-v2, made canonical: ``rows.clean_row`` is the way in."""
