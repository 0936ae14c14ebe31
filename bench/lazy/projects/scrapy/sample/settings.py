BOT_NAME = "sample"
SPIDER_MODULES = ["sample.spiders"]
