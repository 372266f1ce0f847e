"""The formats that cleaning reads, one file each; ``registry.clean_record`` is the way in."""
