"""Collections of images: listing, identity, decoding, and the names they are known by."""
