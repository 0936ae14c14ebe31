import scrapy


class Quotes(scrapy.Spider):
    name = "quotes"
    start_urls = ["https://example.org/"]

    def parse(self, response):
        for quote in response.css("div.quote"):
            yield {"text": quote.css("span.text::text").get()}
