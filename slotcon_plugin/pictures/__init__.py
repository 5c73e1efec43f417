"""Pictures of what a model learned. All but `painting` need `slotcon_plugin[demo]`.

=============  =============================================================================
`painting`     a colour for each prototype, the same everywhere; groups over photographs
`groups`       photographs before and after a training, for the demo
`curves`       what a training logged
`album`        everything that tools/visualize.py draws, made of the following
`survey`       one pass over many pictures: counts, and the nearest pictures
`gallery`      the nearest pictures of one prototype
`embedding`    prototypes in a plane
`figures`      figures as PNG files
`page`         one HTML page with every picture, of `page_parts` and the files in web/
=============  =============================================================================
"""
