"""Hidden states of the language core to media: speech codes and image latents."""
