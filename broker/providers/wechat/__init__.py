"""providers/wechat"""
