"""Files, folders, URIs and lists become requests to publish."""
