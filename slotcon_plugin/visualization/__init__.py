"""Images of what a model learned.

All modules but `painting`, `contact_sheet` and `survey` need `slotcon_plugin[visualize]`.

`album` draws all of slotcon visualize with `survey`, `embedding`, `figures` and `page`; `groups`
draws photographs before and after a training, `curves` what it logged.
"""
