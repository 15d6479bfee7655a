"""An app without its surroundings: what `App.testing` and `test_mode` run on."""
