"""Recipes: from what a person has to a plan of pictures, and what is made of them at the end.

    products, posters, deck     the recipes, one file each
    styles, languages, texts,
    outline, canvas, quoting    what they read and know
    checks                      which texts OCR can vouch for
    sheet/                      the contact sheet, HTML and PDF
    slides/                     the .pptx
    reading, options, errors    what all of them share

A recipe is a function that returns a `Plan`, named by an entry point of the group
`safelight.recipes`; docs/writing-a-recipe.md builds one. Recipes order nothing themselves: the
runner does.
"""
