"""The page of the chat.

routes.py        gives the page, and the token of the sign-in to it
chat.html, chat.css, page.js, messages.js, words.js   the page
chat.js          the client of the chat, also in the mini program
chat_room.js     a room of the chat
"""
