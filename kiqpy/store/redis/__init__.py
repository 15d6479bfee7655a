"""The store on Redis or Valkey: keys, scripts, connections."""
