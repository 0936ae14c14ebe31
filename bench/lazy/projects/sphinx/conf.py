project = "Sample"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
