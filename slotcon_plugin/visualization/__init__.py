"""Images of what a model learned. All but `painting` need `slotcon_plugin[demo]`.

=============  =============================================================================
`painting`     a color for each prototype, the same everywhere; groups over photographs
`groups`       photographs before and after a training, for the demo
`curves`       what a training logged
`album`        everything that tools/visualize.py draws, made of the following
`survey`       one pass over many images: counts, and the nearest images
`gallery`      the nearest images of one prototype
`embedding`    prototypes in a plane
`figures`      figures as PNG files
`page`         one HTML page with every image, of `page_parts` and the files in web/
=============  =============================================================================
"""
