"""Images of what a model learned. All but `painting` need `slotcon_plugin[visualize]`.

============ ===============================================================================
`painting`   a color for each prototype, the same everywhere; groups over photographs
`groups`     photographs and their groups before and after a training
`curves`     values that a training logged
`album`      all that tools/visualize.py draws, with the following modules
`survey`     one pass over many images: counts, and the most similar images
`embedding`  prototypes in a plane
`figures`    figures as PNG files
`page`       one HTML page with all images, from the templates in web/
============ ===============================================================================
"""
