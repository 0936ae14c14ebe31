from flask import Flask, jsonify, render_template_string

app = Flask(__name__)


@app.get("/")
def home():
    return render_template_string("<h1>{{ title }}</h1>", title="Sample")


@app.get("/items/<int:number>")
def item(number):
    return jsonify(number=number)
