"""A private Redis or Valkey server that the app's processes start and share."""
