"""Floor 3: pictures of what a model learned. They need matplotlib (`slotcon_plugin[demo]`)."""
