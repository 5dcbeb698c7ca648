"""How the embedded model, its pretraining text and the device-command rows were made."""
